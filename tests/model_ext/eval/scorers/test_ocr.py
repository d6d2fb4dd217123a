from model_ext.eval.scorers.ocr import ocr_containment, ocr_letters
from tests.model_ext.eval.goldens import cases


def test_recorded_answers() -> None:
    rows = cases("ocr")
    assert len(rows) == 187
    for answer, truth, containment, strict in rows:
        assert ocr_containment(answer, truth) == containment, (answer, truth)
        assert ocr_letters(answer, truth) == strict, (answer, truth)
