// A real OpenID provider (npm oidc-provider) on 127.0.0.1, with keys made at the start.
//
// Prints one line `READY {json}`; runs until SIGTERM. Access tokens are JWTs (RFC 9068) when the request names a
// resource: urn:images is signed by RS256, urn:images:es256 by ES256, urn:images:eddsa by EdDSA.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import { Provider } from 'oidc-provider';

const { values: args } = parseArgs({ options: { port: { type: 'string', default: '0' } } });

const key = (type, options, alg) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }),
  use: 'sig',
  kid: randomBytes(6).toString('hex'),
  alg,
});
const keys = [
  key('rsa', { modulusLength: 2048 }, 'RS256'),
  key('ec', { namedCurve: 'P-256' }, 'ES256'),
  key('ed25519', {}, 'EdDSA'),
];
const algorithms = { 'urn:images': 'RS256', 'urn:images:es256': 'ES256', 'urn:images:eddsa': 'EdDSA' };
const scope = 'images:read images:write';

const server = createServer();
server.listen(Number(args.port), '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const client = (client_id) => ({
    client_id,
    client_secret: `${client_id}-secret`,
    redirect_uris: [],
    response_types: [],
    grant_types: ['client_credentials'],
    scope,
  });
  const provider = new Provider(issuer, {
    jwks: { keys },
    cookies: { keys: [randomBytes(16).toString('hex')] },
    clients: [
      ...['guest', 'reader', 'writer', 'admin'].map(client),
      // For browsers: the loopback address of a native client may have any port (RFC 8252, section 7.3).
      {
        client_id: 'web',
        client_secret: 'web-secret',
        application_type: 'native',
        redirect_uris: ['http://127.0.0.1/login/callback'],
        response_types: ['code'],
        grant_types: ['authorization_code'],
        scope: 'openid profile',
      },
    ],
    scopes: ['openid', 'profile', ...scope.split(' ')],
    claims: { openid: ['sub'], profile: ['preferred_username', 'realm_access'] },
    // The name of a person begins with the role: writer-ann.
    findAccount: (ctx, id) => ({
      accountId: id,
      claims: () => ({ sub: id, preferred_username: id, realm_access: { roles: [id.split('-')[0]] } }),
    }),
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256', 'EdDSA'] },
    extraTokenClaims: (ctx, token) => ({ realm_access: { roles: [token.clientId] } }),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (ctx, resource) => ({
          scope,
          audience: resource,
          accessTokenFormat: 'jwt',
          accessTokenTTL: 600,
          jwt: { sign: { alg: algorithms[resource] } },
        }),
      },
    },
  });
  server.on('request', provider.callback());
  console.log(`READY ${JSON.stringify({ issuer, port: server.address().port, token: `${issuer}/token` })}`);
});
process.on('SIGTERM', () => {
  server.close();
  server.closeAllConnections();
  process.exit(0);
});
