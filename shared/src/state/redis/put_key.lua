-- Puts an operator's key. KEYS: the hash of all of them. ARGV: the key, its record, '1' to leave one that is there, the most
-- keys there may be. Answers 'done', 'known' or 'full'.
local known = redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1
if known and ARGV[3] == '1' then
  return 'known'
end
if not known and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then
  return 'full'
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 'done'
