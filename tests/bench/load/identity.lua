-- One request to the identity model, with binary tensors: the same bytes every time.
local json = '{"inputs":[{"name":"INPUT","datatype":"FP32","shape":[16],"parameters":{"binary_data_size":64}}],'
  .. '"parameters":{"binary_data_output":true}}'
wrk.method = "POST"
wrk.body = json .. string.rep("\0", 64)
wrk.headers["Content-Type"] = "application/octet-stream"
wrk.headers["Inference-Header-Content-Length"] = tostring(#json)
