-- Makes the checkpoint whose pieces lie ready the one that stands, if the lease is still mine.
-- KEYS: checkpoint, lease
-- ARGV: lease token, manifest, and 'tidy' with the pieces to keep where all others shall go
-- Answers 'ok', or 'lost' and who holds the lease.
local holder = redis.call('GET', KEYS[2]) or 'nobody'
if holder ~= ARGV[1] then return 'lost ' .. holder end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'manifest', ARGV[2], 'saved_at', time[1] * 1000 + math.floor(time[2] / 1000))
if #ARGV > 2 then
  local kept = {manifest = true, saved_at = true}
  for i = 4, #ARGV do kept[ARGV[i]] = true end
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if not kept[field] then redis.call('HDEL', KEYS[1], field) end
  end
end
return 'ok'
