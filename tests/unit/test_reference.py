"""The reference says what the code says."""

import pytest

from farm.cli.exitcodes import ExitCode
from farm.config import CoordinatorConfig
from farm.coordinator.settings import ExitCode as CoordinatorExitCode
from farm.core import CoreSettings
from tests import reference


@pytest.mark.parametrize("name", reference.FILES)
def test_the_reference_is_what_the_code_says(name):
    written = (reference.FOLDER / name).read_text("utf-8")
    assert written == reference.FILES[name](), "run: python -m tests.reference"


def test_the_settings_of_the_coordinator_have_the_defaults_of_the_core():
    core, ours = CoreSettings(), CoordinatorConfig()
    shared = set(CoreSettings.__struct_fields__) & set(CoordinatorConfig.__struct_fields__)
    assert shared == set(CoordinatorConfig.__struct_fields__) - {"keys", "listen", "store"}
    assert {name: getattr(ours, name) for name in shared} == {
        name: getattr(core, name) for name in shared
    }


def test_a_coordinator_ends_with_the_codes_of_the_command():
    assert {code.name: code.value for code in CoordinatorExitCode} == {
        code.name: ExitCode[code.name].value for code in CoordinatorExitCode
    }
