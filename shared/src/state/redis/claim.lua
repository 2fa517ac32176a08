-- Says whether an upload is the first with its marks, and claims them if so.
-- KEYS: one for each mark. ARGV: the claim's token, milliseconds that it lasts.
-- Answers {'first', '', 0}, {'under way', '', 0} or {'durable', event id, milliseconds left}.
local ours = 'U' .. ARGV[1]
local under_way = false
for _, key in ipairs(KEYS) do
  local known = redis.call('GET', key)
  if known and string.sub(known, 1, 1) == 'D' then
    return {'durable', string.sub(known, 2), redis.call('PTTL', key)}
  elseif known and known ~= ours then
    under_way = true
  end
end
if under_way then
  return {'under way', '', 0}
end
for _, key in ipairs(KEYS) do
  redis.call('SET', key, ours, 'PX', ARGV[2])
end
return {'first', '', 0}
