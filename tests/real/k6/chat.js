// Open loop: RATE chats a second for DURATION seconds, every second one as a stream, however slow
// the answers are. Environment: URL, MODEL, RATE, DURATION.
import { check } from 'k6';
import http from 'k6/http';

export const options = {
  scenarios: {
    steady: {
      executor: 'constant-arrival-rate',
      rate: Number(__ENV.RATE),
      timeUnit: '1s',
      duration: `${__ENV.DURATION}s`,
      preAllocatedVUs: 20,
      maxVUs: 100,
    },
  },
};

export default function () {
  const streams = __ITER % 2 === 1;
  const body = JSON.stringify({
    model: __ENV.MODEL,
    messages: [{ role: 'user', content: 'Say hello.' }],
    max_tokens: 2,
    stream: streams,
  });
  const headers = { 'content-type': 'application/json' };
  const response = http.post(`${__ENV.URL}/v1/chat/completions`, body, { headers });
  check(response, {
    'status is 200': (r) => r.status === 200,
    'is whole': (r) =>
      streams ? r.body.endsWith('data: [DONE]\n\n') : r.json('usage.completion_tokens') === 2,
  });
}

export function handleSummary(data) {
  return { stdout: JSON.stringify(data.metrics) };
}
