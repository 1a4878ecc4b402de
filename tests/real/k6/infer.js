// Open loop: RATE ModelInfer calls a second for DURATION seconds, however slow the answers are.
// Environment: ADDRESS, PROTO (folder of inference/grpc_service.proto), RATE, DURATION.
import { check } from 'k6';
import grpc from 'k6/net/grpc';

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

const client = new grpc.Client();
client.load([__ENV.PROTO], 'inference/grpc_service.proto');

// x = (1, 2) as raw FP64, so the model 2 x0 + 3 x1 + 1 answers 9.
const ONE_TWO = 'AAAAAAAA8D8AAAAAAAAAQA==';
const NINE = 'AAAAAAAAIkA=';
const request = {
  model_name: 'linear',
  inputs: [{ name: 'x', datatype: 'FP64', shape: [1, 2] }],
  raw_input_contents: [ONE_TWO],
};

export default function () {
  // A VU keeps its connection from one iteration to the next.
  if (__ITER === 0) {
    client.connect(__ENV.ADDRESS, { plaintext: true });
  }
  const response = client.invoke('inference.GRPCInferenceService/ModelInfer', request);
  check(response, {
    'status is OK': (r) => r && r.status === grpc.StatusOK,
    'answer is 9': (r) => r && r.message && r.message.rawOutputContents[0] === NINE,
  });
}

export function handleSummary(data) {
  return { stdout: JSON.stringify(data.metrics) };
}
