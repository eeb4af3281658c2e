"""MLflow: a run for each job, in a local file store unless another address is given."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.optional import require
from rsalign.core.append_only import hold_lock

_KEY = "rsalign.config"


@dataclass(frozen=True, slots=True)
class MlflowTracker:
    """Runs of one experiment.

    Args:
        experiment: its name; made if it is not there.
        uri: a folder for the file store, or the address of a tracking server.

    Raises:
        InstallError: if MLflow is missing.
    """

    experiment: str
    uri: str

    def __post_init__(self) -> None:
        self._mlflow()

    def job(
        self, key: str, name: str, config: Mapping[str, str], figures: Mapping[str, float]
    ) -> None:
        """A run with the settings as parameters and the figures as metrics."""
        client = self._mlflow().MlflowClient(tracking_uri=self.uri)
        with self._alone():
            found = client.get_experiment_by_name(self.experiment)
            experiment = found.experiment_id if found else client.create_experiment(self.experiment)
        for run in client.search_runs([experiment], f"tags.`{_KEY}` = '{key}'"):
            client.delete_run(run.info.run_id)  # parameters of a run cannot change
        run = client.create_run(experiment, run_name=name, tags={_KEY: key})
        for setting, value in config.items():
            client.log_param(run.info.run_id, _allowed(setting), value)
        for figure, number in figures.items():
            client.log_metric(run.info.run_id, figure, number)
        client.set_terminated(run.info.run_id)

    def _alone(self) -> AbstractContextManager[None]:
        """Jobs that end together would each make the experiment, and a file store lets them."""
        folder = self.uri.removeprefix("file://").removeprefix("file:")
        if "://" in folder:
            return nullcontext()
        Path(folder).mkdir(parents=True, exist_ok=True)
        return hold_lock(Path(folder) / ".rsalign.lock")

    @staticmethod
    def _mlflow() -> Any:
        # What MLflow calls maintenance mode: the database that it would have instead needs the
        # full package, and a job writes a few dozen numbers.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        return require("mlflow", "tracker=mlflow", package="mlflow-skinny")


def _allowed(setting: str) -> str:
    """MLflow refuses some marks in names."""
    return "".join(mark if mark.isalnum() or mark in "_-./ " else "_" for mark in setting)
