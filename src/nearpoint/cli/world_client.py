"""Asks the running world of a data folder."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

from nearpoint.cli.console import CommandError, Exit
from nearpoint.world.layout import Layout, World, is_running, load_world

TIMEOUT_S = 70.0  # longer than the supervisor waits for a store to become ready


class WorldClient:
    """The world that runs on a data folder. Raises CommandError when none does."""

    def __init__(self, data: Path) -> None:
        self.layout = Layout(data)
        world = load_world(self.layout)
        if world is None or not is_running(self.layout):
            raise CommandError(
                f"No world is running on {self.layout.data}. Start one with `nearpoint up --detach`"
                " (and give the same --data).",
                Exit.UNREACHABLE,
            )
        self.world: World = world

    def ask(self, method: str, path: str, body: Any = None, *, port: str = "admin") -> Any:
        """The JSON answer. Raises CommandError with the world's own words, REFUSED when it says no."""
        connection = http.client.HTTPConnection("127.0.0.1", self.world.ports[port], timeout=TIMEOUT_S)
        headers = {"Authorization": f"Bearer {self.world.admin_token}"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except TimeoutError as error:
            raise CommandError(f"The world on {self.layout.data} does not answer.", Exit.TIMED_OUT) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CommandError(
                f"The world on {self.layout.data} cannot be asked: {error}.", Exit.UNREACHABLE
            ) from error
        finally:
            connection.close()
        if response.status >= 400:
            code = Exit.REFUSED if response.status < 500 else Exit.FAILED
            said = answer.get("error", f"HTTP {response.status}")
            if answer.get("code") == "NoSuchMultiRegionAccessPoint":
                said = f"{said}. There are: {', '.join(self.access_points()) or 'none'}."
            raise CommandError(said, code)
        return answer

    def access_points(self) -> list[str]:
        """The names of the access points, as the nodes report them."""
        reports = self.ask("GET", "/routes").values()
        return sorted({point["name"] for report in reports for point in report.get("access_points", {}).values()})
