-- Says that a member of a fleet lives, and who else does.
-- KEYS: members (a sorted set: member, when it was last heard of by the server's clock)
-- ARGV: the member, for how many milliseconds that counts, and what it called itself before
local time = redis.call('TIME')
local now, life = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(ARGV[2])
if ARGV[3] ~= ARGV[1] then redis.call('ZREM', KEYS[1], ARGV[3]) end
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - life)
-- The clock may have been set back.
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + life, '+inf')
redis.call('PEXPIRE', KEYS[1], 10 * life)
return redis.call('ZRANGE', KEYS[1], 0, -1)
