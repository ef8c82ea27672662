"""The two READMEs say the same: equal code blocks and links; their code is right and every linked file exists."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(os.environ.get("RR_SOURCE_DIR") or pathlib.Path(__file__).resolve().parents[1])
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\(([^)#]+)\)")
SCREEN = 60  # lines


# What a README need not speak of.
SILENT = {"README.md", "CMakeLists.txt"}
# Folders whose files are told by their parent's README: pages, seeds for the fuzzer.
TOLD_BY_PARENT = re.compile(r"tests/fuzz/corpus|(^|/)www$")


def folders() -> list[pathlib.Path]:
    tops = [ROOT / name for name in ("runtime", "net", "python", "actors", "conf", "tests", "bench")]
    found = tops + [path for top in tops for path in sorted(top.rglob("*")) if path.is_dir()]
    names = [(path, path.relative_to(ROOT).as_posix()) for path in found]
    return [path for path, name in names if "__pycache__" not in name and not TOLD_BY_PARENT.search(name)]


def said(file: str, text: str) -> bool:
    """By its name, by its stem with any ending, or by a pattern such as `gate_<what>.c`."""
    stem = file.rpartition(".")[0] or file
    for word in re.findall(r"`([^`]+)`", text):
        word = word.rpartition("/")[2]
        if word == file or word.partition(".")[0] == stem:
            return True
        pattern = re.sub(r"<\w+>|\\\*", ".*", re.escape(word))
        if re.fullmatch(pattern, file):
            return True
    return False


def blocks(text: str, language: str) -> list[str]:
    return [body for name, body in BLOCK.findall(text) if name == language]


class Readme(unittest.TestCase):
    def test_code_blocks_are_equal(self) -> None:
        self.assertTrue(BLOCK.findall(ENGLISH))
        self.assertEqual(BLOCK.findall(ENGLISH), BLOCK.findall(CHINESE))

    def test_links_are_equal_and_exist(self) -> None:
        english, chinese = LINK.findall(ENGLISH), LINK.findall(CHINESE)
        self.assertEqual(english[1:], chinese[1:])  # the first leads to the other language
        for link in english + chinese:
            self.assertTrue((ROOT / link).exists(), link)

    def test_headings_match(self) -> None:
        levels = [re.findall(r"^(#+) ", text, re.M) for text in (ENGLISH, CHINESE)]
        self.assertEqual(levels[0], levels[1])

    def test_python_compiles(self) -> None:
        found = blocks(ENGLISH, "python")
        self.assertTrue(found)
        for code in found:
            compile(code, "README.md", "exec")

    def test_graphs_are_sound(self) -> None:
        program = os.environ.get("RR_BIN", str(ROOT / "build" / "redrabbit"))
        found = blocks(ENGLISH, "yaml")
        self.assertTrue(found)
        for text in found:
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder)
                (path / "graph.yaml").write_text(text)
                (path / "main.py").write_text("")
                done = subprocess.run([program, "check", str(path / "graph.yaml")], capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_commands_of_dev_exist(self) -> None:
        usage = subprocess.run([str(ROOT / "dev"), "help"], capture_output=True, text=True, check=True).stdout
        for command in set(re.findall(r"\./dev \w+", ENGLISH)):
            self.assertIn(command, usage)

    def test_every_folder_has_a_readme_of_one_screen(self) -> None:
        for folder in folders():
            name = folder.relative_to(ROOT).as_posix()
            readme = folder / "README.md"
            self.assertTrue(readme.exists(), f"{name}/README.md is missing")
            self.assertLessEqual(len(readme.read_text(encoding="utf-8").splitlines()), SCREEN, name)

    def test_every_file_has_its_line(self) -> None:
        missing = []
        for folder in folders():
            text = (folder / "README.md").read_text(encoding="utf-8")
            for file in sorted(folder.iterdir()):
                if file.is_file() and file.name not in SILENT and not said(file.name, text):
                    missing.append(str(file.relative_to(ROOT)))
        self.assertEqual(missing, [], "no line in their folder's README.md")


    def test_every_line_has_its_file(self) -> None:
        documents = [ROOT / "README.md", *(path for folder in folders() for path in folder.glob("*.md"))]
        names = {path.name for folder in folders() for path in folder.rglob("*")}
        gone = []
        for document in documents:
            for word in re.findall(r"`([^`\n]+)`", document.read_text(encoding="utf-8")):
                for file in re.findall(r"[\w/-]+\.(?:py|c|h|md|js|pml|yaml)\b(?!\.)", word):
                    if not re.search(r"[<*{]", word) and file.rpartition("/")[2] not in names | {"README.md"}:
                        gone.append(f"{document.relative_to(ROOT)}: {word}")
        self.assertEqual(gone, [], "named, but not there")


class Dev(unittest.TestCase):
    def test_programs_in_examples_are_what_is_built(self) -> None:
        linked = re.search(r"for name in ([\w -]+); do ln", (ROOT / "dev").read_text(encoding="utf-8"))
        assert linked
        for folder in [ROOT, *folders()]:
            for document in folder.glob("*.md"):
                used = re.findall(r"(?m)^build/([\w-]+) ", document.read_text(encoding="utf-8"))
                self.assertLessEqual(set(used), set(linked[1].split()), document)

    def test_shell_scripts_are_clean(self) -> None:
        for script in ("dev", ".ci/run", "tests/fuzz/run"):
            done = subprocess.run(["shellcheck", str(ROOT / script)], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout)


if __name__ == "__main__":
    unittest.main()
