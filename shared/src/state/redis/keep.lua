-- Makes claims good: their uploads are durable. A mark that another claim has got meanwhile is left to it.
-- KEYS: one for each mark. ARGV: milliseconds that a durable upload is remembered, then for each mark the claim's token and
-- the event id.
for at, key in ipairs(KEYS) do
  local known = redis.call('GET', key)
  if not known or known == 'U' .. ARGV[2 * at] then
    redis.call('SET', key, 'D' .. ARGV[2 * at + 1], 'PX', ARGV[1])
  end
end
return 0
