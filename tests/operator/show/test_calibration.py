import io
import json

from rich.console import Console

from router.load.calibration.live import ReadingTimes
from router.operator.calibrating.calibrate import CalibrationQuestion, calibrate
from router.operator.show.calibration import calibration_json, render_calibration
from tests.config.samples import write
from tests.load.calibration.servers import readings
from tests.operator.calibrating.test_calibrate import recorded


def told(tmp_path, found):
    meter = {"kind": "dcgm", "url": "http://127.0.0.1:9/metrics"}
    path = write(tmp_path, {"endpoints/0/meter": meter})
    question = CalibrationQuestion(
        path, "west-0", ReadingTimes(60.0, 2.0), recorded(tmp_path, found)
    )
    return calibrate(question)


def test_what_was_left_out_is_counted(tmp_path):
    found = readings(count=200)
    found = [*found[:60], *found[80:]]
    calibration = told(tmp_path, found)
    shown = calibration_json(calibration)
    assert json.loads(shown)["dropped"] == {"a gap, or a clock that was set": 1}
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(render_calibration(calibration))
    assert "left out 1 times: a gap, or a clock that was set" in console.export_text()
