-- Brings accepted events that are not finished into the index of those in flight.
-- KEYS: the index, then the events' keys. ARGV: for each event its id and when it was accepted, in milliseconds.
for event = 2, #KEYS do
  local known = redis.call('GET', KEYS[event])
  if known and string.sub(known, 1, 1) == 'A' then
    redis.call('ZADD', KEYS[1], 'NX', ARGV[2 * event - 2], ARGV[2 * event - 3])
  end
end
return 0
