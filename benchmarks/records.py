"""What the committed result files say: the newest rows of each benchmark, and the files they come from."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

__all__ = ["MACHINE", "MissingResultError", "ResultFile", "Results", "read"]

FOLDER = Path(__file__).parent / "results"
MACHINE = "amd-epyc-2-cores"  # the one the pages report, except for GPUs
_MEASURED_TOGETHER = ("race", "part", "kind", "method", "problem", "dataset")


class MissingResultError(ValueError):
    """A page asks for rows that no result file has."""


class ResultFile(NamedTuple):
    name: str
    benchmark: str
    date: str
    device: str
    jax: str
    rows: list[dict]


@dataclass
class Results:
    """All result files, oldest first.

    Attributes:
        used: The names of the files that rows were taken from so far.
    """

    files: list[ResultFile]
    used: list[str] = field(default_factory=list)

    def apart(self) -> "Results":
        """The same files, none of them used yet."""
        return Results(self.files)

    def rows(self, benchmark: str, device: str = MACHINE, **wanted: object) -> list[dict]:
        """The newest rows of a benchmark that have the `wanted` values, or one of them where a tuple is given.

        Rows that were measured together, such as those of a race, all come from one file. `device` is the start of a
        name; the device of its file is added to each row as `on`.

        Raises:
            MissingResultError: There are none.
        """
        newest: dict[tuple, tuple[ResultFile, list[dict]]] = {}
        for file in self.files:
            if file.benchmark == benchmark and file.device.startswith(device):
                together: dict[tuple, list[dict]] = {}
                for row in file.rows:
                    together.setdefault((file.device, *map(row.get, _MEASURED_TOGETHER)), []).append(row)
                newest |= {group: (file, rows) for group, rows in together.items()}
        allowed = {key: value if isinstance(value, tuple) else (value,) for key, value in wanted.items()}
        found = [
            (file, row)
            for file, rows in newest.values()
            for row in rows
            if all(row.get(key) in values for key, values in allowed.items())
        ]
        if not found:
            what = "".join(f", {key} = {value!r}" for key, value in wanted.items())
            raise MissingResultError(
                f"no file in benchmarks/results has rows of {benchmark!r} on {device!r}{what}: run "
                f"`python -m benchmarks.{benchmark}` there and commit the file that it writes"
            )
        self.used += [file for file in dict.fromkeys(file.name for file, _ in found) if file not in self.used]
        return [row | {"on": file.device} for file, row in found]

    def row(self, benchmark: str, device: str = MACHINE, **wanted: object) -> dict:
        """The one row with the `wanted` values.

        Raises:
            MissingResultError: There is none.
            ValueError: There are several.
        """
        rows = self.rows(benchmark, device, **wanted)
        if len(rows) > 1:
            raise ValueError(f"{len(rows)} rows of {benchmark!r} on {device!r} have {wanted}: say which")
        return rows[0]


def read(folder: Path = FOLDER) -> Results:
    """All files of a folder.

    Raises:
        ValueError: One is not what `harness.save` writes.
    """
    files = []
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            benchmark = content["command"].split()[2].removeprefix("benchmarks.")
            jax = content["versions"]["jax"]
            file = ResultFile(path.name, benchmark, content["date"], content["device"], jax, content["rows"])
        except (ValueError, KeyError, IndexError) as error:
            raise ValueError(f"{path.name} is not a result file of benchmarks.harness: {error!r}") from error
        files.append((content["date"], content.get("time", ""), path.name, file))
    return Results([file for *_, file in sorted(files, key=lambda entry: entry[:3])])
