local wip = {}
for _, key in ipairs(redis.call('KEYS', 'rq:wip:*')) do
  local told = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for n = 1, #told, 2 do wip[string.match(told[n], '^[^:]+')] = told[n + 1] end
end
local due = {}
for _, key in ipairs(redis.call('KEYS', 'rq:scheduled:*')) do
  local told = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for n = 1, #told, 2 do due[told[n]] = told[n + 1] end
end
local rows = {}
for _, key in ipairs(redis.call('KEYS', 'rq:job:*')) do
  if redis.call('TYPE', key).ok == 'hash' then
    local id = string.sub(key, 8)
    local last = redis.call('EXISTS', 'rq:results:' .. id) == 1 and redis.call('XREVRANGE', 'rq:results:' .. id, '+', '-', 'COUNT', 1) or {}
    rows[#rows + 1] = {id, wip[id] or '', due[id] or '', redis.call('HGETALL', key), last[1] and last[1][2] or {}}
  end
end
return rows
