-- One micro-batch, all or nothing.
-- KEYS: offset, forecasts, dead, lease, input
-- ARGV: lease token, expected offset, new offset, consumer group, entries added in all up to the new
--       offset, longest forecast stream, longest dead stream (0: no limit), number of forecasts,
--       then series and record of each, then reason, entry and payload of each reject.
-- The offset's key holds offset and entries, as position.py reads them.
-- Answers 'ok', 'done' (this very commit stood already), 'lost' and who holds the lease, or 'at' and
-- the offset that stands instead.
-- A script is isolated but not rolled back: what can fail is checked before the first write.
for i, kind in ipairs({'string', 'stream', 'stream', 'string'}) do
  local found = redis.call('TYPE', KEYS[i]).ok
  if found ~= 'none' and found ~= kind then
    return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' is a ' .. found .. ', not a ' .. kind)
  end
end
for _, write in ipairs({
  {'SET', KEYS[1], ARGV[3]},
  {'XADD', KEYS[2], '*', 'f', 'v'},
  {'XADD', KEYS[3], '*', 'f', 'v'},
  {'XGROUP', 'SETID', KEYS[5], ARGV[4], ARGV[3]},
}) do
  if not redis.acl_check_cmd(unpack(write)) then
    return redis.error_reply('NOPERM this user may not ' .. write[1] .. ' ' .. write[2])
  end
end
local holder = redis.call('GET', KEYS[4]) or 'nobody'
if holder ~= ARGV[1] then return 'lost ' .. holder end
local stands = string.match(redis.call('GET', KEYS[1]) or '', '^%S*')
if stands ~= ARGV[2] then
  if stands == ARGV[3] then return 'done' end
  return 'at ' .. stands
end
local call, pcall, argv = redis.call, redis.pcall, ARGV -- locals are found faster, thousands of times
local last = 8 + 2 * tonumber(argv[8])
local forecasts = KEYS[2]
for i = 9, last, 2 do
  call('XADD', forecasts, '*', 'series', argv[i], 'forecast', argv[i + 1])
end
for i = last + 1, #ARGV, 3 do
  redis.call('XADD', KEYS[3], '*', 'reason', ARGV[i], 'entry', ARGV[i + 1], 'payload', ARGV[i + 2])
end
redis.call('SET', KEYS[1], ARGV[3] .. ' ' .. ARGV[5])
-- The group shows the offset to the server's own tools; nothing here reads through it, and somebody
-- may have removed it.
local moved = redis.pcall('XGROUP', 'SETID', KEYS[5], ARGV[4], ARGV[3], 'ENTRIESREAD', ARGV[5])
if moved.err then
  redis.pcall('XGROUP', 'CREATE', KEYS[5], ARGV[4], ARGV[3], 'ENTRIESREAD', ARGV[5])
end
if ARGV[6] ~= '0' then redis.pcall('XTRIM', KEYS[2], 'MAXLEN', '~', ARGV[6]) end
if ARGV[7] ~= '0' then redis.pcall('XTRIM', KEYS[3], 'MAXLEN', '~', ARGV[7]) end
-- Live copies go last: nobody hears a forecast that is not on record, and a refused one
-- (a subscriber's channel may be closed to us) must not undo the record.
for i = 9, last, 2 do
  pcall('PUBLISH', 'forecast:' .. argv[i], argv[i + 1])
end
return 'ok'
