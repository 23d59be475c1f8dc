local rows = {}
for _, meta in ipairs(redis.call('KEYS', '*:meta')) do
  local queue = string.sub(meta, 1, -6)
  local seen = {}
  local function add(id, state, score)
    if seen[id] or string.sub(id, 1, 2) == '0:' then return end
    seen[id] = true
    local key = queue .. ':' .. id
    if redis.call('TYPE', key).ok ~= 'hash' then return end
    rows[#rows + 1] = {queue, id, state, score, redis.call('PEXPIRETIME', key .. ':lock'), redis.call('HGETALL', key)}
  end
  for _, state in ipairs({'active', 'wait', 'paused'}) do
    for _, id in ipairs(redis.call('LRANGE', queue .. ':' .. state, 0, -1)) do add(id, state, '') end
  end
  for _, state in ipairs({'prioritized', 'delayed', 'waiting-children', 'completed', 'failed'}) do
    local told = redis.call('ZRANGE', queue .. ':' .. state, 0, -1, 'WITHSCORES')
    for n = 1, #told, 2 do add(told[n], state, told[n + 1]) end
  end
  for _, key in ipairs(redis.call('KEYS', string.gsub(queue, '[%[%]*?\\]', '\\%0') .. ':*')) do
    local id = string.sub(key, #queue + 2)
    if not string.find(id, ':') and redis.call('TYPE', key).ok == 'hash' and redis.call('HEXISTS', key, 'timestamp') == 1 then
      add(id, 'nowhere', '')
    end
  end
end
return rows
