"""A group of three processes for suites that kill some of them: `center` has the broker, `front` the gate, `back` no port of its own."""

from __future__ import annotations

from harness import Case, Server, free_port

LEASE, MARGIN, DOWN = 2.0, 0.5, 1.5  # seconds


class Trio(Case):
    def launch(self, actors: str, gate: str = "", lease: float = LEASE) -> None:
        """Writes the graph (more actors, a line each; more options of the gate) and starts all three."""
        self.gate = free_port()
        self.write(
            "g.yaml",
            f"""group: world
cluster: {{ lease: {lease}s, margin: {int(MARGIN * 1000)}ms, heartbeat: 100ms, suspect: 500ms, link_down: {int(DOWN * 1000)}ms }}
nodes:
  center: {{ address: "tcp://127.0.0.1:{free_port()}" }}
  front: {{ address: "tcp://127.0.0.1:{free_port()}" }}
  back: {{}}
actors:
  broker@0: {{ role: broker, node: center }}
  gate@0: {{ role: gate, node: front, listen: "tcp://127.0.0.1:{self.gate}"{gate} }}
{actors}
""",
        )
        self.center, self.front, self.back = (self.begin("g.yaml", "--node", node) for node in ("center", "front", "back"))
        for server in (self.center, self.front, self.back):
            server.ready()

    def kill(self, server: Server) -> None:
        """kill -9, of a process that lives."""
        self.assertIsNone(server.process.poll(), server.output)
        server.process.kill()
        server.process.wait()
        assert server.process.stdout
        server._reader.join(5)
        server.process.stdout.close()
