-- Lets a lease that would outlast any run out when a lease does.
-- KEYS: lease
-- ARGV: for how many milliseconds a lease stands
-- Answers 'cut' where it did that, 'endless' of one that never runs out (that is nobody's of ours: a
-- person put it there, and may have meant to), else nothing.
local left = redis.call('PTTL', KEYS[1])
if left == -1 then return 'endless' end
if left <= tonumber(ARGV[1]) then return '' end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 'cut'
