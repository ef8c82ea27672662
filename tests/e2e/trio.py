"""A group of three processes for suites that kill some of them: `center` has the broker, `front` the gate, `back` no port of its own."""

from __future__ import annotations

from harness import SANITIZE, Case, free_port

# Seconds: longer than what a machine with much else to do keeps a process waiting, which must not look like a fault.
LEASE, MARGIN, DOWN = (6.0, 0.5, 4.0) if SANITIZE else (3.0, 0.5, 2.0)


class Trio(Case):
    def launch(
        self, actors: str, gate: str = "", lease: float = LEASE, suspect: float = 0.5, down: float = DOWN, top: str = "",
    ) -> None:  # fmt: skip
        """Writes the graph (more actors, a line each; more options of the gate, and of the top) and starts all three."""
        self.gate = free_port()
        self.write(
            "g.yaml",
            f"""group: world
cluster: {{ lease: {lease}s, margin: {int(MARGIN * 1000)}ms, heartbeat: 100ms, suspect: {int(suspect * 1000)}ms, link_down: {int(down * 1000)}ms }}
{top}
nodes:
  center: {{ address: "tcp://127.0.0.1:{free_port()}" }}
  front: {{ address: "tcp://127.0.0.1:{free_port()}" }}
  back: {{}}
actors:
  broker@0: {{ role: broker, node: center }}
  gate@0: {{ role: gate, node: front, listen: "tcp://127.0.0.1:{self.gate}", login_timeout: 10m{gate} }}
{actors}
""",
        )
        self.center, self.front, self.back = (self.begin("g.yaml", "--node", node) for node in ("center", "front", "back"))
        for server in (self.center, self.front, self.back):
            server.ready()
