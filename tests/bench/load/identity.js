// One request to the identity model, with binary tensors: the same bytes every time.
import http from "k6/http";

const json =
  '{"inputs":[{"name":"INPUT","datatype":"FP32","shape":[16],"parameters":{"binary_data_size":64}}],' +
  '"parameters":{"binary_data_output":true}}';
const body = new Uint8Array(json.length + 64);
for (let i = 0; i < json.length; i++) body[i] = json.charCodeAt(i);
const params = {
  headers: { "Content-Type": "application/octet-stream", "Inference-Header-Content-Length": String(json.length) },
};

export default function () {
  http.post(__ENV.URL, body.buffer, params);
}
