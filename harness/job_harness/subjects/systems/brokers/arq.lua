local due = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  if redis.call('TYPE', key).ok == 'zset' then
    local told = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for n = 1, #told, 2 do due[told[n]] = told[n + 1] end
  end
end
local rows, seen = {}, {}
for _, kind in ipairs({'arq:result:', 'arq:job:'}) do
  for _, key in ipairs(redis.call('KEYS', kind .. '*')) do
    local id = string.sub(key, #kind + 1)
    if not seen[id] then
      seen[id] = true
      rows[#rows + 1] = {id, kind, redis.call('GET', key), due[id] or '', redis.call('PEXPIRETIME', 'arq:in-progress:' .. id), redis.call('GET', 'arq:retry:' .. id) or ''}
    end
  end
end
return rows
