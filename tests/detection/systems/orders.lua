local rows = {}
local shown = redis.call('HGETALL', 'shown')
for at = 1, #shown, 2 do
  rows[#rows + 1] = cjson.encode({key = shown[at], value = shown[at + 1]})
end
return rows
