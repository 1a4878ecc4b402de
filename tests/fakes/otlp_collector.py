"""A collector of OpenTelemetry, over gRPC and HTTP, as far as its wire goes."""

import gzip
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

PATIENCE_S = 30.0


def plain(value):
    """An AnyValue in Python."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(plain(one) for one in value.array_value.values)
    return getattr(value, kind)


def attributes(pairs):
    return {pair.key: plain(pair.value) for pair in pairs}


REQUESTS = {
    "/v1/traces": trace.ExportTraceServiceRequest,
    "/v1/metrics": metrics.ExportMetricsServiceRequest,
    "/v1/logs": logs.ExportLogsServiceRequest,
}


class Collector(TraceServiceServicer):
    """``spans``, ``records``: queues of (resource attributes, scope, span or log record);
    ``pushes``: of (resource attributes, scope, metrics by name); ``headers``: of each call.

    ``failing``: a gRPC status code to refuse calls with, None to take them. ``gate``: while it is
    not set, calls hang.
    """

    def __init__(self, address="127.0.0.1:0"):
        self.spans = queue.Queue()
        self.records = queue.Queue()
        self.pushes = queue.Queue()
        self.headers = []
        self.calls = threading.Semaphore(0)
        self.failing = None
        self.gate = threading.Event()
        self.gate.set()
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        add_TraceServiceServicer_to_server(self, self._server)
        metrics_grpc.add_MetricsServiceServicer_to_server(self, self._server)
        logs_grpc.add_LogsServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(address)
        self._server.start()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                outer.headers.append({k.lower(): v for k, v in self.headers.items()})
                kind = REQUESTS.get(self.path)
                taken = kind is not None and outer._take(kind.FromString(body))
                answer = trace.ExportTraceServiceResponse().SerializeToString()
                self.send_response(200 if taken else 400)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.http_port = self._http.server_port
        self._serving = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._serving.start()

    def Export(self, request, context):
        self.headers.append(dict(context.invocation_metadata()))
        if not self._take(request):
            context.abort(self.failing or grpc.StatusCode.INVALID_ARGUMENT, "no room")
        name = request.DESCRIPTOR.name.replace("Request", "Response")
        return next(getattr(room, name) for room in (trace, metrics, logs) if hasattr(room, name))()

    def _take(self, request):
        self.calls.release()
        self.gate.wait(PATIENCE_S)
        if self.failing is not None:
            return False
        if isinstance(request, metrics.ExportMetricsServiceRequest):
            for of_resource in request.resource_metrics:
                resource = attributes(of_resource.resource.attributes)
                for of_scope in of_resource.scope_metrics:
                    scope = (of_scope.scope.name, of_scope.schema_url)
                    by_name = {metric.name: metric for metric in of_scope.metrics}
                    self.pushes.put((resource, scope, by_name))
            return True
        if isinstance(request, logs.ExportLogsServiceRequest):
            for of_resource in request.resource_logs:
                resource = attributes(of_resource.resource.attributes)
                for of_scope in of_resource.scope_logs:
                    scope = (of_scope.scope.name, of_scope.schema_url)
                    for record in of_scope.log_records:
                        self.records.put((resource, scope, record))
            return True
        for of_resource in request.resource_spans:
            resource = attributes(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                scope = (of_scope.scope.name, of_scope.schema_url)
                for span in of_scope.spans:
                    self.spans.put((resource, scope, span))
        return True

    def take(self, count):
        """So many spans, once they are here; a failure when they do not come."""
        return [self.spans.get(timeout=PATIENCE_S) for _ in range(count)]

    def rest(self):
        """Every span that is here, without waiting."""
        found = []
        while not self.spans.empty():
            found.append(self.spans.get()[2])
        return found

    def close(self):
        self.gate.set()
        self._server.stop(0).wait()
        self._http.shutdown()
        self._http.server_close()
        self._serving.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
