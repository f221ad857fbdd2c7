"""How large an installation is, and what each extra adds to it: files of the packages, in MB.

For an environment that has the extras, such as that of ``make setup``. PyTorch stands apart with
the CUDA libraries that its wheels for Linux ask for: most of what is downloaded.
"""

import re
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from benchmarks.common import Claim, Report, parser

EXTRAS = ("peft", "data", "real", "serving", "playground", "openai", "tune", "ray", "train",
          "study", "figures", "lm-eval", "inspect")  # fmt: skip
PYTORCH = re.compile(r"torch$|triton|nvidia|cuda")


def main() -> None:
    arguments = parser(__doc__).parse_args()
    report = Report("sizes", arguments, {})
    base = needed("tsdi", "")
    torch = {name for name in base if PYTORCH.match(name)}
    claims = [
        Claim("tsdi itself, MB", megabytes([Path(__file__).parent.parent / "src" / "tsdi"])),
        Claim("PyTorch and CUDA, MB", megabytes(files(torch))),
        Claim("all else that tsdi needs, MB", megabytes(files(base - torch - {"tsdi"}))),
    ]
    raw = {}
    for extra in EXTRAS:
        more = needed("tsdi", extra) - base
        claims.append(Claim(f"tsdi[{extra}] adds, MB", megabytes(files(more))))
        raw[extra] = sorted(more)
    report.write(claims, raw)


def needed(name: str, extra: str) -> set[str]:
    """Names of the packages that one needs here, itself among them, with an extra or without."""
    found: set[str] = set()
    open_: list[tuple[str, str]] = [(name, extra), (name, "")]
    seen: set[tuple[str, str]] = set()
    while open_:
        one = open_.pop()
        if one in seen or (here := _distribution(one[0])) is None:
            continue
        seen.add(one)
        found.add(one[0])
        open_ += _requirements(here, one[1])
    return found


def _requirements(here: Distribution, extra: str) -> Iterator[tuple[str, str]]:
    for line in here.requires or ():
        need = Requirement(line)
        if need.marker is None or need.marker.evaluate({"extra": extra}):
            name = re.sub(r"[-_.]+", "-", need.name).lower()
            yield from ((name, one) for one in ("", *need.extras))


def _distribution(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:  # of another platform
        return None


def files(names: Iterable[str]) -> Iterator[Path]:
    """The files of packages."""
    for name in names:
        here = distribution(name)
        yield from (Path(str(here.locate_file(file))) for file in here.files or ())


def megabytes(paths: Iterable[Path]) -> float:
    """The size of files, and of all that is in folders, compiled Python left out."""
    inside = (file for path in paths for file in ([path] if path.is_file() else path.rglob("*")))
    sizes = [file.stat().st_size for file in inside if file.is_file() and file.suffix != ".pyc"]
    return round(sum(sizes) / 1e6, 1)


if __name__ == "__main__":
    main()
