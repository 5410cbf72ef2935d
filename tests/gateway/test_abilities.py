"""What a store is found to be able to do, and how often it is asked."""

from __future__ import annotations

from nearpoint.gateway.abilities import CONSEQUENCES, Abilities, Ability, ability_of
from nearpoint.regions.capabilities import Capabilities, Finding


def found(**verdicts: str) -> Ability:
    findings = tuple(
        Finding(feature=name.replace("_", " "), verdict=verdict, remedy="mend" if verdict == "mend" else "")  # type: ignore[arg-type]
        for name, verdict in verdicts.items()
    )
    return ability_of(Capabilities(region="r", bucket="b", endpoint="http://x", access="read-write", findings=findings))


def test_what_is_missing_is_said_with_its_consequence() -> None:
    lying = found(versioning="yes", metadata="yes", conditional_create="no", conditional_replace="yes")
    assert list(lying.missing) == ["conditional create"]
    assert (lying.conditional_create, lying.conditional_replace, lying.conditional) == (False, True, False)
    assert lying.obstacle is None
    assert found(versioning="no").obstacle == CONSEQUENCES["versioning"]
    assert found(metadata="mend", versioning="yes").obstacle is None  # names in other case are no loss
    assert not found(versioning="yes").known


async def test_it_is_found_out_once_and_what_is_in_the_way_again() -> None:
    now_s, asked, answer = 0.0, 0, found(versioning="no")

    async def find_out(bucket: str) -> Ability:
        nonlocal asked
        asked += 1
        return answer

    abilities = Abilities(find_out, clock_s=lambda: now_s)
    assert not abilities.now("b").known
    for _ in range(3):
        assert (await abilities.of("b")).obstacle
    assert asked == 1
    assert abilities.report() == {"b": {"versioning": CONSEQUENCES["versioning"]}}
    now_s, answer = 6.0, found(**{name.replace(" ", "_"): "yes" for name in CONSEQUENCES})
    assert (await abilities.of("b")).obstacle is None
    now_s = 10_000.0
    await abilities.of("b")
    assert asked == 2
    abilities.forget("b")
    await abilities.of("b")
    assert asked == 3
