-- wrk: posts a multipart minidump of SIZE bytes, each one different, also from those of earlier runs, to UPLOAD_PATH.
local size = tonumber(os.getenv("SIZE"))
local path = os.getenv("UPLOAD_PATH")
local boundary = "----crashferry-bench-7d1f"

math.randomseed(7)
local noise = {}
for byte = 1, 8192 do noise[byte] = string.char(math.random(0, 255)) end
noise = table.concat(noise)
local body = string.rep(noise, math.ceil(size / #noise)):sub(1, size - 32)

local function part(head) return "--" .. boundary .. "\r\nContent-Disposition: form-data; " .. head .. "\r\n\r\n" end
local before = part('name="prod"') .. "Electron\r\n" .. part(
  'name="upload_file_minidump"; filename="crash.dmp"\r\nContent-Type: application/octet-stream')
local after = "\r\n--" .. boundary .. "--\r\n"

local function u32(n)
  return string.char(n % 256, math.floor(n / 256) % 256, math.floor(n / 65536) % 256, math.floor(n / 16777216) % 256)
end

local headers = { ["Content-Type"] = "multipart/form-data; boundary=" .. boundary }
local sent, run = 0, os.time()
request = function()
  sent = sent + 1
  -- The dump's own header: magic, version, no streams, checksum, time and flags that make it unlike all others.
  local dump = "MDMP" .. u32(0xa793) .. u32(0) .. u32(32) .. u32(sent * 2654435) .. u32(sent) .. u32(run) .. u32(0)
  return wrk.format("POST", path, headers, before .. dump .. body .. after)
end

done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format("bench requests=%d took=%.3f not_200=%d socket_errors=%d p50_ms=%.2f p99_ms=%.2f\n",
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
