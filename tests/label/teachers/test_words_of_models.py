"""What `pano annotate` makes of the words of a real model: what is stuff, and what is hidden."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_models

from panoforge.core.errors import ConfigError
from panoforge.label.annotating import annotate
from panoforge.label.config import AnnotateConfig
from panoforge.label.labelling import Hiding
from panoforge.label.loading import panel_of

pytest.importorskip(
    "transformers", reason="the extra `label` is not installed: pip install 'panoforge[label]'"
)


def test_a_class_to_hide_that_no_teacher_knows_is_refused_before_anything_is_labelled(
    tmp_path: Path,
) -> None:
    folder = tiny_models.mask2former(tmp_path / "model")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 128, 3), np.uint8))
    teacher = {"kind": "panoptic", "folder": str(folder)}

    def hiding(*classes: str) -> AnnotateConfig:
        hide = {"classes": [*classes], "teachers": [teacher]}
        return AnnotateConfig.model_validate({"panoptic": [teacher], "hide": hide})

    with pytest.raises(ConfigError, match="no teacher of hide has the word 'face', and nothing"):
        annotate(tmp_path / "a.png", tmp_path / "out", hiding("chair", "face"))
    assert not list((tmp_path / "out").glob("staged/*"))
    assert Hiding.of(hiding("Sky other_merged"), tmp_path).classes == {"sky other merged"}


def test_what_is_stuff_in_a_model_s_words_is_asked_of_the_user_s_own_vocabulary(
    tmp_path: Path,
) -> None:
    teacher = {"kind": "panoptic", "folder": str(tiny_models.mask2former(tmp_path / "model"))}
    mine = tmp_path / "mine.yaml"
    mine.write_text("seats: {thing: false, words: [chair]}\nwall: {thing: true}\n")
    stuff = {}
    for vocabulary in (None, str(mine)):
        own = AnnotateConfig(panoptic=[teacher], vocabulary=vocabulary)
        (loaded,) = panel_of((), own.panoptic, tmp_path, own).panoptic
        stuff[vocabulary] = loaded.stuff
    assert stuff == {None: {"wall", "sky-other-merged"}, str(mine): {"chair"}}
