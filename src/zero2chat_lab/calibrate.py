"""Calibration: the confidence below which a model should decline, fitted on held-out rows and measured on others.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml \
        -m zero2chat_lab.calibrate --config recipes/mine/calibrate.yaml

Reads a model, and questions with answers that it was not trained on. The confidence of an answer is the geometric mean
of its tokens' probabilities. Half of the rows fit the threshold that keeps the share `keep` of the right answers; the
metrics are those of the other half. With `measured`, all rows of `datasets` fit it, and those of `measured` are
measured. `zero2chat chat` and `serve` take the threshold as `--abstain-below`. With
`samples`, declining by agreement of several samples is measured beside it. `zero2chat calibrate` prints the same from
the shell.
"""

from __future__ import annotations

from zero2chat.stages import Load, Result, Stage
from zero2chat_lab.measurements.calibration import CalibrateArguments, as_table, run


def measure(args: CalibrateArguments, load: Load) -> Result:
    return Result(*run(*load(args.model_name_or_path), args))


STAGE = Stage(
    name="calibrate",
    story="The confidence below which a model should decline, and what declining costs on other held-out rows.",
    kind="answers",
    arguments=(CalibrateArguments,),
    positional="model_name_or_path",
    measure=measure,
    table=as_table,
)
main = STAGE.main

if __name__ == "__main__":
    STAGE.command()
