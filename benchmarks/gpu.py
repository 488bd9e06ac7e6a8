r"""What a GPU spends its time on, in under eight minutes: no network, no download, no file but the one asked for.

    python benchmarks/gpu.py --out docs/measured/h100.md
    python benchmarks/gpu.py --small                       # does it run? on a CPU, in a minute

Parts are measured one after the other, and each line is printed as soon as it is known; a part that fails is named, and
the others go on. No part begins after the time limit.
"""

import platform
import time
import traceback
from pathlib import Path
from typing import Annotated

import torch
import typer
from gpu_common import Part, Setting
from gpu_networks import invariance, networks, rewards, stable_diffusion
from gpu_steps import numbers, processes, steps

import guided

PARTS: tuple[Part, ...] = (steps, numbers, invariance, rewards, processes, stable_diffusion, networks)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    out: Annotated[Path | None, typer.Option(help="A Markdown file to write as well.")] = None,
    part: Annotated[list[str] | None, typer.Option(help="Only this part; repeat for several.")] = None,
    small: Annotated[bool, typer.Option("--small", help="Tiny sizes, to see whether it runs.")] = False,
    minutes: Annotated[float, typer.Option(help="No part begins later than this.")] = 8.0,
) -> None:
    """Prints a line for each figure."""
    setting = Setting(torch.device("cuda" if torch.cuda.is_available() else "cpu"), small)
    card = torch.cuda.get_device_name() if setting.device.type == "cuda" else platform.processor() or "a CPU"
    lines = [f"# {card}", "", f"guided {guided.__version__}, torch {torch.__version__}, `python benchmarks/gpu.py`", ""]
    print("\n".join(lines), flush=True)
    start = time.perf_counter()
    for measure in PARTS:
        if part and measure.__name__ not in part:
            continue
        head = ["", f"## {(measure.__doc__ or measure.__name__).splitlines()[0]}", "", "| | |", "|---|---|"]
        lines += head
        print("\n".join(head), flush=True)
        for line in measured(measure, setting, start + 60 * minutes):
            lines.append(line)
            print(line, flush=True)
            if out is not None:  # what is known is kept
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text("\n".join(lines) + "\n")


def measured(part: Part, setting: Setting, until: float):
    """The lines of a part; a part that fails ends with what failed."""
    try:
        for name, figures in part(setting):
            yield f"| {name} | {figures} |"
            if time.perf_counter() > until:
                yield "| the rest | was left out: the time is over |"
                return
    except Exception as error:
        traceback.print_exc()
        yield f"| failed | {type(error).__name__}: {' '.join(str(error).split())[:300]} |"


if __name__ == "__main__":
    app()
