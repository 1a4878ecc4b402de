from router.errors import UpstreamUnreachedError
from router.gateway.oip.status import CODES
from router.gateway.openai.refusal import refusal_of
from router.http_api import CHAT
from router.planes.envoy.local_replies import REPLIES, local_replies


def test_they_are_the_native_gateways_words():
    for one in REPLIES:
        given = {"refused": True} if one.error is UpstreamUnreachedError else {}
        native = refusal_of(one.error("words", **given), CHAT)
        assert (one.http, one.error.reason) == (native.status, native.reason)
        assert f'"type":"{one.kind}"' in native.body.decode()
        assert one.grpc == CODES[one.error].value[0]


def test_grpc_has_the_status_and_http_a_document():
    (grpc, *_), (http, *_) = (local_replies(is_grpc)["mappers"] for is_grpc in (True, False))
    added = {one["header"]["key"]: one["header"]["value"] for one in grpc["headers_to_add"]}
    assert added == {"x-carbon-reason": "message_too_large", "grpc-status": "8"}
    assert "status_code" not in grpc and http["status_code"] == 413
    assert http["body_format_override"]["json_format"]["error"]["code"] == "message_too_large"
