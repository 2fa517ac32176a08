-- Records accepted notes and outcomes, and counts each event once, whatever is repeated and in whatever order it comes.
-- KEYS: the ledger's hash, the index of events in flight, then for each record the event's key, that of its attempts, and
-- that of the index of untold events of its partition.
-- ARGV: seconds that an outcome is kept, then for each record its value, the ledger's count it belongs to ('' for a note), the
-- event's id, when it was accepted in milliseconds, and the offset of its message ('' when it has none).
-- Answers for each record the outcome that the event had before, or ''.
local ledger, open, kept = KEYS[1], KEYS[2], ARGV[1]
local answers = {}
for record = 1, (#KEYS - 2) / 3 do
  local event, attempts, untold = KEYS[3 * record], KEYS[3 * record + 1], KEYS[3 * record + 2]
  local first = 5 * record - 3
  local value, count, id = ARGV[first], ARGV[first + 1], ARGV[first + 2]
  local accepted_at, offset = ARGV[first + 3], ARGV[first + 4]
  local known = redis.call('GET', event)
  answers[record] = ''
  if known and string.sub(known, 1, 1) == 'F' then
    if count ~= '' then
      answers[record] = known
    end
  elseif count == '' then
    if not known then
      redis.call('HINCRBY', ledger, 'accepted', 1)
      -- Kept until its outcome comes, however long that takes.
      redis.call('SET', event, value)
      redis.call('ZADD', open, accepted_at, id)
    end
    -- While any copy of the message is in the log, the event is not lost: the last one counts.
    if offset ~= '' then
      local place = redis.call('ZSCORE', untold, id)
      if not place or tonumber(place) < tonumber(offset) then
        redis.call('ZADD', untold, offset, id)
      end
    end
  else
    if not known then
      redis.call('HINCRBY', ledger, 'accepted', 1)
    end
    redis.call('SET', event, value, 'EX', kept)
    redis.call('DEL', attempts)
    redis.call('HINCRBY', ledger, count, 1)
    redis.call('ZREM', open, id)
    if offset ~= '' then
      redis.call('ZADD', untold, offset, id)
    end
  end
end
return answers
