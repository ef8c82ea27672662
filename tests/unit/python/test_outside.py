"""The package outside of a server: scripts are imported and their handlers called, as their own tests do."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import io
import os
import pathlib
import subprocess
import sys
import unittest
from unittest import mock

ROOT = pathlib.Path(os.environ.get("RR_SOURCE_DIR") or pathlib.Path(__file__).resolve().parents[3])
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "conf" / "chat")]

import ff  # noqa: E402
import ffext  # noqa: E402
import redrabbit  # noqa: E402


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT / "python")})


class Outside(unittest.TestCase):
    def test_every_public_name_is_there(self) -> None:
        for name in redrabbit.__all__:
            self.assertIsNotNone(getattr(redrabbit, name), name)
        for name in ffext.__all__:
            self.assertIsNotNone(getattr(ffext, name), name)
        with self.assertRaises(AttributeError):
            redrabbit.no_such_name  # noqa: B018
        self.assertEqual(ff.service_name, "")

    def test_the_chat_room(self) -> None:
        room = importlib.import_module("main")
        ann = redrabbit.Session("ann")
        with mock.patch("redrabbit.broadcast") as broadcast:
            room.enter(ann)
            room.say(ann, ["hello"])
        self.assertEqual([cmd for cmd, _ in ann.sent], [room.HISTORY, room.NOTICE])
        self.assertEqual(broadcast.call_args.args[1]["text"], "hello")
        self.assertEqual(room.login(redrabbit.Login("bob", 0, "127.0.0.1", "gate@0")), ("bob", {"name": "bob"}))
        with self.assertRaises(redrabbit.Refuse):
            room.login(redrabbit.Login("", 0, "127.0.0.1", "gate@0"))

    def test_why_a_call_failed(self) -> None:
        """A test that stands in for the other scene raises what a server would."""
        for text, code, executed in [("NOROUTE: no room@1", "NOROUTE", False), ("TIMEOUT", "TIMEOUT", True), ("ValueError: no", "HANDLER", True)]:
            error = redrabbit.CallError(text)
            self.assertEqual((error.code, error.executed), (code, executed))

    def test_what_needs_a_server_says_so(self) -> None:
        for call in (lambda: redrabbit.broadcast(1, ""), lambda: redrabbit.every(1, print), lambda: ffext.call_service("s", 1, ""),
                     lambda: redrabbit.sessions(), lambda: asyncio.run(redrabbit.database("db"))):  # fmt: skip
            with self.assertRaisesRegex(RuntimeError, r"\w+\(\) works only inside of a server"):
                call()

    def test_async_handlers(self) -> None:
        async def both() -> list[int]:
            async def one() -> int:
                await redrabbit.sleep(0)
                return 1

            return await redrabbit.gather(one(), one())

        self.assertEqual(asyncio.run(both()), [1, 1])

    def test_bodies_and_log(self) -> None:
        self.assertEqual(ffext.to_str({"ä": (1, {2})}), '{"ä": [1, [2]]}')
        self.assertEqual(ffext.json_to_value("[1]"), [1])
        with contextlib.redirect_stderr(io.StringIO()) as out:
            redrabbit.log.warning("careful")
        self.assertEqual(out.getvalue(), "WARN  SCRIPT: careful\n")

    def test_a_script_is_no_program(self) -> None:
        for text in ("@redrabbit.on_login\ndef f(who): pass", "@redrabbit.message(1)\ndef f(s, m): pass", "@ffext.session_verify_callback\ndef f(*a): pass"):
            done = run("-c", "import redrabbit, ffext\n" + text)
            self.assertNotEqual(done.returncode, 0, text)
            self.assertIn("this is the script of a scene: `redrabbit ", done.stderr)

    def test_clients_need_none_of_it(self) -> None:
        done = run("-c", "import sys, redrabbit.client; print('redrabbit._api' in sys.modules, 'redrabbit._database' in sys.modules)")
        self.assertEqual((done.stdout, done.stderr), ("False False\n", ""))


if __name__ == "__main__":
    unittest.main()
