"""Geographic restrictions: which countries a distribution is for (CloudFront Developer Guide, "Restrict the geographic
distribution of your content")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nearpoint.edge.properties import ConfigError, required_text, texts_of


@dataclass(frozen=True, slots=True, kw_only=True)
class GeoRestriction:
    """`countries` are ISO 3166-1 alpha-2 codes in capitals; `allowed`: whether it is they or the others that may."""

    countries: frozenset[str]
    allowed: bool

    def admits(self, country: str | None) -> bool:
        """Whether viewers there are served. Where it is not known, they are, as with CloudFront."""
        return country is None or (country in self.countries) == self.allowed


def compile_restriction(config: Mapping[str, Any]) -> GeoRestriction | None:
    """The GeoRestriction of a DistributionConfig, None where there is none. Raises ConfigError."""
    geo = (config.get("Restrictions") or {}).get("GeoRestriction")
    if geo is None:
        return None
    where = "Restrictions.GeoRestriction"
    kind = required_text(geo, "RestrictionType", where)
    if kind == "none":
        return None
    if kind not in ("whitelist", "blacklist"):
        raise ConfigError(f"{where}.RestrictionType", f"{kind!r} is not none, whitelist or blacklist")
    countries = frozenset(country.upper() for country in texts_of(geo, "Locations", where))
    return GeoRestriction(countries=countries, allowed=kind == "whitelist")
