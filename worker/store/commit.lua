-- One micro-batch, all or nothing.
-- KEYS: offset, forecasts, dead, lease, input
-- ARGV: lease token, expected offset, new offset, consumer group, entries added in all up to the new
--       offset, longest forecast stream, longest dead stream (0: no limit), fleet, how its channels
--       begin, number of forecasts, then series and record of each, then reason, entry and payload of each reject.
-- The offset's key holds offset and entries, as position.py reads them.
-- Answers 'ok', 'done' (this very commit stood already), 'lost' and who holds the lease, or 'at' and
-- the offset that stands instead.
-- A script is isolated but not rolled back: what can fail is checked before the first write.
local forecasts_end = 10 + 2 * tonumber(ARGV[10])
local adds = {0, tonumber(ARGV[10]), (#ARGV - forecasts_end) / 3, 0}
local function is_used_up(key)
  local facts = redis.call('XINFO', 'STREAM', key)
  for i = 1, #facts, 2 do
    if facts[i] == 'last-generated-id' then
      return string.find(facts[i + 1], '^18446744073709551615%-18446744073709') ~= nil
    end
  end
end
for i, kind in ipairs({'string', 'stream', 'stream', 'string'}) do
  local found = redis.call('TYPE', KEYS[i]).ok
  if found ~= 'none' and found ~= kind then
    return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' is a ' .. found .. ', not a ' .. kind)
  end
  -- Near the end of its ids a stream takes some entries and refuses the others. A single one, which
  -- is the first write, it may refuse by itself.
  if found == 'stream' and adds[i] > 0 and adds[2] + adds[3] > 1 and is_used_up(KEYS[i]) then
    return redis.error_reply('USEDUP ' .. KEYS[i] .. ' has no ids left for another entry')
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
local forecasts, channels = KEYS[2], ARGV[9]
for i = 11, forecasts_end, 2 do
  call('XADD', forecasts, '*', 'series', argv[i], 'forecast', argv[i + 1])
end
for i = forecasts_end + 1, #ARGV, 3 do
  redis.call('XADD', KEYS[3], '*', 'reason', ARGV[i], 'entry', ARGV[i + 1], 'payload', ARGV[i + 2], 'fleet', ARGV[8])
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
for i = 11, forecasts_end, 2 do
  pcall('PUBLISH', channels .. argv[i], argv[i + 1])
end
return 'ok'
