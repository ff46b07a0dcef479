-- Puts the reading of one dead letter back on its input stream and the letter away.
-- KEYS: dead, input
-- ARGV: the letter's id, then fields and values of the input's new entry.
-- Answers 1, or 0 where the letter is no longer there: it was retried or dropped before.
-- A script is isolated but not rolled back: what can fail is checked before the first write.
for _, key in ipairs(KEYS) do
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= 'stream' then
    return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. found .. ', not a stream')
  end
end
for _, write in ipairs({{'XADD', KEYS[2], '*', 'f', 'v'}, {'XDEL', KEYS[1], ARGV[1]}}) do
  if not redis.acl_check_cmd(unpack(write)) then
    return redis.error_reply('NOPERM this user may not ' .. write[1] .. ' ' .. write[2])
  end
end
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2))
return redis.call('XDEL', KEYS[1], ARGV[1])
