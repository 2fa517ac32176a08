-- Records accepted notes and outcomes, and counts each event once, whatever is repeated and in whatever order it comes.
-- KEYS: the ledger's hash, then for each record the event's key and that of its attempts.
-- ARGV: seconds that an outcome is kept, then for each record its value and the ledger's count it belongs to ('' for a
-- note). Answers for each record the outcome that the event had before, or ''.
local ledger, kept = KEYS[1], ARGV[1]
local answers = {}
for record = 1, (#KEYS - 1) / 2 do
  local event, attempts = KEYS[2 * record], KEYS[2 * record + 1]
  local value, count = ARGV[2 * record], ARGV[2 * record + 1]
  local known = redis.call('GET', event)
  answers[record] = ''
  if known and (count == '' or string.sub(known, 1, 1) == 'F') then
    if count ~= '' then
      answers[record] = known
    end
  else
    if not known then
      redis.call('HINCRBY', ledger, 'accepted', 1)
    end
    if count == '' then
      -- Kept until its outcome comes, however long that takes.
      redis.call('SET', event, value)
    else
      redis.call('SET', event, value, 'EX', kept)
      redis.call('DEL', attempts)
      redis.call('HINCRBY', ledger, count, 1)
    end
  end
end
return answers
