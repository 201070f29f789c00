"""Whatever happens between two runs, the results equal those of one clean run."""

import os
import random
import shutil
from contextlib import suppress

import numpy as np
import pytest
import tifffile

from pyflow.session import SessionConfig, run_session, session_status
from pyflow.session.pipeline import verify_session


class Killed(BaseException):
    """Ends a run as a signal does: no handler of the session's catches it."""


class History:
    """A session to which things happen."""

    def __init__(self, config: SessionConfig, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config, self.random, self.monkeypatch = config, random.Random(seed), monkeypatch
        self.steps = []

    def add_file(self):
        name = f"rec{self.random.choice([0, 3, 11])}.tif"
        shutil.copy(self.config.root / "rec1.tif", self.config.root / name)

    def remove_file(self):
        files = [path for path in sorted(self.config.root.glob("*.tif")) if path.name != "rec1.tif"]
        if len(files) > 1:
            self.random.choice(files).unlink()
        self.config = self.config.replace(center=None)

    def replace_file(self):
        path = self.random.choice(sorted(self.config.root.glob("*.tif")))
        tifffile.imwrite(path, tifffile.imread(path)[::-1])

    def change_option(self):
        change = self.random.choice(
            [
                {"flow_options": {**self.config.flow_options, "alpha": self.random.choice([2, 8])}},
                {"flow_options": {**self.config.flow_options, "save_w": self.random.random() < 0.5}},
                {"sigma_smooth": self.random.choice([1.0, 2.0])},
                {"valid_fraction": self.random.choice([0.5, 1.0])},
                {"align_output_format": self.random.choice(["TIFF", "HDF5", "none"])},
            ]
        )
        self.config = self.config.replace(**change)

    def change_center(self):
        self.config = self.config.replace(center=self.random.choice(sorted(self.config.root.glob("*.tif"))).name)

    def lose_marker(self):
        for path in sorted(self.config.output_root.glob("*/status.json")):
            if self.random.random() < 0.5:
                path.unlink()

    def kill(self):
        """Run until some file is about to get its name, or just has it."""
        real, left, before = os.replace, self.random.randrange(40), self.random.random() < 0.5

        def replace(source, target):
            nonlocal left
            left -= 1
            if left == 0 and before:
                raise Killed
            real(source, target)
            if left == 0:
                raise Killed

        with self.monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace)
            with suppress(Killed):
                run_session(self.config)

    def run(self):
        run_session(self.config)

    def happen(self) -> None:
        actions = (
            self.add_file,
            self.remove_file,
            self.replace_file,
            self.change_option,
            self.change_option,
            self.change_center,
            self.lose_marker,
            self.kill,
            self.kill,
            self.run,
        )
        action = self.random.choice(actions)
        self.steps.append(action.__name__)
        action()


@pytest.mark.parametrize("seed", [0, 1, 2, 5, 31])
def test_random_histories_end_like_a_clean_run(config, contents, monkeypatch, seed):
    options = {**config.flow_options, "alpha": 4}
    history = History(config.replace(flow_options=options), seed, monkeypatch)
    for _ in range(8):
        history.happen()
    history.run()
    assert session_status(history.config)[1].done
    assert verify_session(history.config) == []
    clean = history.config.replace(output_root="clean", final_results="clean_results")
    run_session(clean)
    found, expected = contents(history.config), contents(clean)
    for name, array in expected.items():
        if "paths" not in name:
            ours = name.replace("clean_results/", "final_results/").replace("clean/", "compensated_outputs/")
            np.testing.assert_array_equal(found[ours], array, err_msg=f"{name} after {history.steps}")
    for a, b in (("final_results", "clean_results"), *_recordings(clean)):
        names = [{path.name for path in (config.root / folder).iterdir()} for folder in (a, b)]
        assert names[0] == names[1], history.steps


def _recordings(clean: SessionConfig) -> list[tuple[str, str]]:
    return [(f"compensated_outputs/{f.name}", f"clean/{f.name}") for f in clean.output_root.iterdir() if f.is_dir()]
