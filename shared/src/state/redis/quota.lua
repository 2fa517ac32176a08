-- Counts uploads in the fixed windows of a key: the current minute and hour by this server's clock.
-- KEYS: the hash of the key's use. ARGV: uploads, bytes, then either '' and '' to take them from all limits or from none,
-- or the minute and the hour that they count in, whatever the limits; then the limits, '' for none: uploads a minute,
-- uploads an hour, bytes a minute, bytes an hour.
-- Answers {1, minute, hour, 0}, or {0, number of the limit, what is left of it, microseconds to its window's end}.
local time = redis.call('TIME')
local seconds, micros = tonumber(time[1]), tonumber(time[2])
local minute, hour = math.floor(seconds / 60), math.floor(seconds / 3600)
local known = redis.call('HMGET', KEYS[1], 'minute', 'minute_uploads', 'minute_bytes', 'hour', 'hour_uploads', 'hour_bytes')
local function used(at, window)
  if tonumber(known[at]) == window then
    return tonumber(known[at + 1]), tonumber(known[at + 2])
  end
  return 0, 0
end
local minute_uploads, minute_bytes = used(1, minute)
local hour_uploads, hour_bytes = used(4, hour)
local uploads, bytes = tonumber(ARGV[1]), tonumber(ARGV[2])
local in_minute, in_hour = true, true
if ARGV[3] == '' then
  local limits = {
    {uploads, minute_uploads, 60}, {uploads, hour_uploads, 3600}, {bytes, minute_bytes, 60}, {bytes, hour_bytes, 3600},
  }
  local worst, worst_left, worst_wait = 0, 0, -1
  for number, limit in ipairs(limits) do
    local needed, taken, window = limit[1], limit[2], limit[3]
    local value = tonumber(ARGV[4 + number])
    if value and needed > value - taken then
      local wait = (window - seconds % window) * 1000000 - micros
      if wait >= worst_wait then
        worst, worst_left, worst_wait = number, math.max(value - taken, 0), wait
      end
    end
  end
  if worst > 0 then
    return {0, worst, worst_left, worst_wait}
  end
else
  in_minute, in_hour = tonumber(ARGV[3]) == minute, tonumber(ARGV[4]) == hour
end
if in_minute then
  minute_uploads, minute_bytes = math.max(minute_uploads + uploads, 0), math.max(minute_bytes + bytes, 0)
end
if in_hour then
  hour_uploads, hour_bytes = math.max(hour_uploads + uploads, 0), math.max(hour_bytes + bytes, 0)
end
redis.call('HSET', KEYS[1], 'minute', minute, 'minute_uploads', minute_uploads, 'minute_bytes', minute_bytes,
  'hour', hour, 'hour_uploads', hour_uploads, 'hour_bytes', hour_bytes)
redis.call('EXPIRE', KEYS[1], 7200)
return {1, minute, hour, 0}
