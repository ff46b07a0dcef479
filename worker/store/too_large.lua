-- Tells the id of the entry that follows an id, if it is too large to be sent; it may have been removed
-- since it was, and the next one is not to be taken for it.
-- KEYS: input
-- ARGV: the id before it, the last one that is asked for, how many bytes may be sent.
local entry = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], ARGV[2], 'COUNT', 1)[1]
if not entry then return nil end
local sent = 200 -- ids, and what stands around
for _, word in ipairs(entry[2]) do sent = sent + #word + #tostring(#word) + 5 end
return sent > tonumber(ARGV[3]) and entry[1]
