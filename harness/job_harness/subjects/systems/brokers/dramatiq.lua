local rows = {}
local acked = {}
for _, key in ipairs(redis.call('KEYS', 'dramatiq:__acks__.*')) do
  for _, id in ipairs(redis.call('SMEMBERS', key)) do acked[id] = true end
end
for _, key in ipairs(redis.call('KEYS', 'dramatiq:*.msgs')) do
  local told = redis.call('HGETALL', key)
  local dead = string.find(key, '%.XQ%.msgs$') and 'dead' or ''
  for n = 1, #told, 2 do rows[#rows + 1] = {told[n], told[n + 1], dead ~= '' and dead or acked[told[n]] and 'taken' or 'queued'} end
end
return rows
