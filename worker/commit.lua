-- One micro-batch, all or nothing.
-- KEYS: offset, forecasts, dead
-- ARGV: expected offset ('' for none), new offset, longest forecast stream, longest dead stream
--       (0: no limit), number of forecasts, then series and record of each,
--       then reason, entry and payload of each reject.
-- Answers 'ok', 'done' (this very commit stood already) or the offset that stands instead.
-- A script is isolated but not rolled back: what can fail is checked before the first write.
for i, kind in ipairs({'string', 'stream', 'stream'}) do
  local found = redis.call('TYPE', KEYS[i]).ok
  if found ~= 'none' and found ~= kind then
    return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' is a ' .. found .. ', not a ' .. kind)
  end
end
for _, write in ipairs({{'SET', KEYS[1], ARGV[2]}, {'XADD', KEYS[2], '*', 'f', 'v'}, {'XADD', KEYS[3], '*', 'f', 'v'}}) do
  if not redis.acl_check_cmd(unpack(write)) then
    return redis.error_reply('NOPERM this user may not ' .. write[1] .. ' ' .. write[2])
  end
end
local stands = redis.call('GET', KEYS[1]) or ''
if stands ~= ARGV[1] then
  if stands == ARGV[2] then return 'done' end
  return 'at ' .. stands
end
local last = 5 + 2 * tonumber(ARGV[5])
for i = 6, last, 2 do
  redis.call('XADD', KEYS[2], '*', 'series', ARGV[i], 'forecast', ARGV[i + 1])
end
for i = last + 1, #ARGV, 3 do
  redis.call('XADD', KEYS[3], '*', 'reason', ARGV[i], 'entry', ARGV[i + 1], 'payload', ARGV[i + 2])
end
redis.call('SET', KEYS[1], ARGV[2])
if ARGV[3] ~= '0' then redis.pcall('XTRIM', KEYS[2], 'MAXLEN', '~', ARGV[3]) end
if ARGV[4] ~= '0' then redis.pcall('XTRIM', KEYS[3], 'MAXLEN', '~', ARGV[4]) end
-- Live copies go last: nobody hears a forecast that is not on record, and a refused one
-- (a subscriber's channel may be closed to us) must not undo the record.
for i = 6, last, 2 do
  redis.pcall('PUBLISH', 'forecast:' .. ARGV[i], ARGV[i + 1])
end
return 'ok'
