local rows = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'list' then
    for _, message in ipairs(redis.call('LRANGE', key, 0, -1)) do rows[#rows + 1] = {'queued', message, ''} end
  elseif kind == 'hash' and string.find(key, 'unacked') then
    local told = redis.call('HGETALL', key)
    for n = 1, #told, 2 do rows[#rows + 1] = {'unacked', told[n + 1], redis.call('ZSCORE', key .. '_index', told[n]) or ''} end
  elseif kind == 'string' and string.find(key, 'celery%-task%-meta%-') then
    rows[#rows + 1] = {'result', redis.call('GET', key), ''}
  end
end
return rows
