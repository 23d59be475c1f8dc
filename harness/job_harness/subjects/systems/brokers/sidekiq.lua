local rows = {}
for _, key in ipairs(redis.call('KEYS', 'queue:*')) do
  for _, job in ipairs(redis.call('LRANGE', key, 0, -1)) do rows[#rows + 1] = {'queue', '', job} end
end
for _, key in ipairs({'schedule', 'retry', 'dead'}) do
  local told = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for n = 1, #told, 2 do rows[#rows + 1] = {key, told[n + 1], told[n]} end
end
return rows
