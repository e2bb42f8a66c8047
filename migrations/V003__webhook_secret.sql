-- The secret that signs Airtable's pings was kept beside the webhook's id. It is in a file now, and only where
-- pings are received: whoever may read these tables has no use for it.
update mirror.position set identity = identity - 'mac_secret' where identity ? 'mac_secret';
