/* What Envoy wants to find in a module, and nobody here uses. */
#include "abi.h"

void ON(http_filter_scheduled)(envoy_t e, void *r, uint64_t id) { (void)e, (void)r, (void)id; }
void ON(http_filter_downstream_above_write_buffer_high_watermark)(envoy_t e, void *r) {
    (void)e, (void)r;
}
void ON(http_filter_downstream_below_write_buffer_low_watermark)(envoy_t e, void *r) {
    (void)e, (void)r;
}
void ON(http_filter_http_stream_headers)(envoy_t e, void *r, uint64_t s, void *h, size_t n,
                                         bool end) {
    (void)e, (void)r, (void)s, (void)h, (void)n, (void)end;
}
void ON(http_filter_http_stream_data)(envoy_t e, void *r, uint64_t s, const span_t *d, size_t n,
                                      bool end) {
    (void)e, (void)r, (void)s, (void)d, (void)n, (void)end;
}
void ON(http_filter_http_stream_trailers)(envoy_t e, void *r, uint64_t s, void *h, size_t n) {
    (void)e, (void)r, (void)s, (void)h, (void)n;
}
void ON(http_filter_http_stream_complete)(envoy_t e, void *r, uint64_t s) {
    (void)e, (void)r, (void)s;
}
void ON(http_filter_http_stream_reset)(envoy_t e, void *r, uint64_t s, int why) {
    (void)e, (void)r, (void)s, (void)why;
}
