-- Whether an event may have the id that its client chose. KEYS: the id's claim, the event's status. ARGV: the upload's
-- fingerprint, seconds that a claim is kept. Answers 1 or 0.
local known = redis.call('GET', KEYS[1])
if known then
  return known == ARGV[1] and 1 or 0
end
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
