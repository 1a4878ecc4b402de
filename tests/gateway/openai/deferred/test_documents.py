from router.deferral.values import BatchSums, Counts
from router.gateway.openai.deferred.documents import batch_document
from tests.deferral.support import new_batch, stored_file


def carbon(sums):
    batch = new_batch(stored_file(), counts=Counts(3, 2, 1), sums=sums)
    told = batch_document(batch)["carbon"]
    told.pop("saved_basis", None)
    return told


def test_what_no_answer_said_is_left_out_and_never_0():
    assert carbon(BatchSums(5, 2)) == {"input_tokens": 5, "output_tokens": 2}
    assert carbon(BatchSums(5, 2, 0.5, 0.0, 2, 0)) == {
        "gco2e": 0.5, "gco2e_answers": 2, "input_tokens": 5, "output_tokens": 2,
    }  # fmt: skip
    # By chance a saving is 0.
    told = carbon(BatchSums(5, 2, 0.5, 0.0, 2, 1))
    assert (told["saved_gco2e"], told["saved_answers"]) == (0.0, 1)


def test_a_batch_without_answers_says_nothing_of_them():
    assert "carbon" not in batch_document(new_batch(stored_file()))
