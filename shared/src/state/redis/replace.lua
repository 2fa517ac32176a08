-- Puts another value in the place of a known one. KEYS: its key. ARGV: the known value, the new one, seconds it is kept.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
end
return 0
