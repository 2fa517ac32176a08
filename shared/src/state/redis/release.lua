-- Ends a claim whose upload came to nothing. KEYS: one for each mark. ARGV: the claim's token.
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == 'U' .. ARGV[1] then
    redis.call('DEL', key)
  end
end
return 0
