-- Says of uploads whether each is the first with its marks, and claims them if so.
-- KEYS: the marks of all claims, one claim after the other. ARGV: for each claim its token, milliseconds that it lasts, and
-- how many marks it has.
-- Answers for each {'first', '', 0}, {'under way', '', 0} or {'durable', event id, milliseconds left}.
local function claim(from, to, token, lasts)
  local ours = 'U' .. token
  local under_way = false
  for at = from, to do
    local known = redis.call('GET', KEYS[at])
    if known and string.sub(known, 1, 1) == 'D' then
      return {'durable', string.sub(known, 2), redis.call('PTTL', KEYS[at])}
    elseif known and known ~= ours then
      under_way = true
    end
  end
  if under_way then
    return {'under way', '', 0}
  end
  for at = from, to do
    redis.call('SET', KEYS[at], ours, 'PX', lasts)
  end
  return {'first', '', 0}
end

local answers, at = {}, 1
for number = 1, #ARGV / 3 do
  local token, lasts, marks = ARGV[3 * number - 2], ARGV[3 * number - 1], tonumber(ARGV[3 * number])
  answers[number] = claim(at, at + marks - 1, token, lasts)
  at = at + marks
end
return answers
