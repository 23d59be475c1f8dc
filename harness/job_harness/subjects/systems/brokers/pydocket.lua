local rows = {}
for _, key in ipairs(redis.call('KEYS', '*:runs:*')) do
  rows[#rows + 1] = {key, redis.call('HGETALL', key)}
end
return rows
