# Varnish in front of image_repo: keeps pictures for a day, and drops those of an image when it changes.
#
#   apt-get install varnish varnish-modules
#   varnishd -a :80 -f /etc/varnish/varnish.vcl -s malloc,1g
#
# image_repo has to say which image a picture is of, and to call when it changes:
#
#   surrogate_header: xkey
#   purge: {url: "http://varnish/", headers: ["xkey-purge: {key}"]}
vcl 4.1;

import xkey;

backend default {
    .host = "127.0.0.1";
    .port = "5000";
    .first_byte_timeout = 630s;     # server.request_timeout ends it before
}

# the nodes of image_repo
acl nodes {
    "127.0.0.1";
    "::1";
}

sub vcl_recv {
    if (req.method == "PURGE") {
        if (client.ip !~ nodes) {
            return (synth(405, "Not allowed"));
        }
        set req.http.purged = xkey.purge(req.http.xkey-purge);
        return (synth(200, req.http.purged + " purged"));
    }
    # What one caller may see is not for the next, nor is a login. Cookies of other programs mean nothing.
    if (req.http.Authorization || req.http.Cookie ~ "(^|; )image_repo_(session|login)=") {
        return (pass);
    }
    unset req.http.Cookie;
}

sub vcl_backend_response {
    # What is private or not to be stored is refused by Varnish itself; what a signature with an end is for has no xkey.
    if (beresp.http.xkey && beresp.http.Cache-Control ~ "public") {
        set beresp.ttl = 1d;
        set beresp.grace = 0s;      # what was purged is not served once more
    }
}

sub vcl_deliver {
    unset resp.http.xkey;
}
